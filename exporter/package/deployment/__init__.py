"""Write what a bundle needs to run as a service: container, Kubernetes, systemd, or a function of a cloud."""
