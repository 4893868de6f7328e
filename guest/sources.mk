# guest: sources
