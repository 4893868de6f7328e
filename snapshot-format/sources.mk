# snapshot-format: sources
