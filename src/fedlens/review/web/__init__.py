"""The console as a web application on loopback: its pages for people, its API for programs."""
