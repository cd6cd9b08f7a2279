"""Files that hold several pictures: pages of TIFF, frames of animations and films.

    reader = open_frames(Path("in.gif"))      None for a file of one picture
    for frame in reader.frames(): ...         one after the other, each read as rows
    writer = open_frame_writer(...)           takes them in any order, writes them in theirs

`frame` has the protocols; each other file is a format.
"""
