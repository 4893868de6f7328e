# bench: sources
