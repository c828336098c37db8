"""What riskpred reaches on images: accuracy on real and simulated pictures, reading and speed."""
