"""What `launch.study` is made of: the grid, its stages, who does which, what it costs."""
