"""Measures what each exact saving of the OpenVINO engine gives."""
