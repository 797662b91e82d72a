"""Who does what next: the stages and the messages between them."""
