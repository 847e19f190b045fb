"""Robots from MJCF files: families with named variations of payload, motors, floor and timing."""
