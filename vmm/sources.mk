# vmm: sources
