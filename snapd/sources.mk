# snapd: sources
