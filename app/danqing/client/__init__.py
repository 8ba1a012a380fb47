"""The command line as a client of a server: one picture, a batch, tokens. Standard library only; knows /v1 and nothing inside."""
