"""What `launch.plan` is made of: machines, programs compiled for them, and what those cost."""
