"""What a running gateway tells about itself over HTTP: health, metrics, and the picture of what it serves.

Read only: nothing here changes anything, and no secret leaves. Read `server.py` for the pages, `picture.py` for what
the picture holds, `engine.py` for what is asked of the gateway.
"""
