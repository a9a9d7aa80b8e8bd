"""Envoy's configuration protocol (delta ADS) as a library that knows nothing of gateways.

`snapshot.py` is a resource and the types in send order, `subscription.py` one type on one stream, `protocol.py` one
stream without I/O, `cache.py` what a group of proxies shall have and the flights that bring it there, `server.py` the
sockets, `client.py` a simulated proxy, `events.py` what an owner is told. Start reading at `cache.py`.
"""
