"""Faces in photos: find them, frame them as FFHQ does, put the result back."""

from align.crop import Frame, crop_face, paste_back
from align.landmarks import Detector, Face, find_faces, find_upright

__all__ = ["Detector", "Face", "Frame", "crop_face", "find_faces", "find_upright", "paste_back"]
