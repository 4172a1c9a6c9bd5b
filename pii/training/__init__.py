"""What the loop in train.py needs: plans, steps, state, run folders."""
