"""Corrects declared knowledge by what is measured while serving: bounded, slow, and never by bad samples."""
