"""Builds and tries the wheel of a release."""
