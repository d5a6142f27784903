"""One module per scenario. Each has `measure(plan, board)`: it starts what it needs and puts figures on the board."""
