"""The claims that the book settles: what each record says for and against them."""
