"""Memory modes: what a story needs, which mode fits, how a mode is carried out."""
