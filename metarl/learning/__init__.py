"""What agents are made of: networks as functions of flat parameters, returns, inner loop, trust region."""
