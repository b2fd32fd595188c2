"""What can denoise: the protocol, the MNIST network, and the catalogue of model folders."""
