"""Faces in photos: find them, frame them as FFHQ does, put the result back."""
