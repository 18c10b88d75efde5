"""Measures the start of the C++ library's tool beside Python and other programs."""
