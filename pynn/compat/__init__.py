"""Faces of other packages over pynn. Nothing in pynn imports from here."""
