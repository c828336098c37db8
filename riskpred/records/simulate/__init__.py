"""The simulated hospital: source files as a hospital would hand them over, with true risks in closed form."""
