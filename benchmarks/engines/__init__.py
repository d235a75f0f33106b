"""What the jobs are compared with: a file each, run in a process of its own."""
