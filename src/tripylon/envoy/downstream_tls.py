"""How a filter chain ends the TLS of its clients; certificates and authorities come by SDS, and touch no listener."""

from __future__ import annotations

from tripylon.envoy import names
from tripylon.envoy.source import ads, duration
from tripylon.model.plan import TlsPlan
from tripylon.pb import pack
from tripylon.pb.messages import DownstreamTlsContext, FilterChain, TlsParameters, TransportSocket

HANDSHAKE_TIMEOUT_MS = 10_000
"""How long a client may take to say which server it wants, and then to finish the handshake."""


def terminate(chain: FilterChain, tls: TlsPlan, *, alpn: tuple[str, ...] = ()) -> None:
    """Has a chain present a listener's certificates, check those of clients if asked to, and offer `alpn`."""
    context = DownstreamTlsContext()
    common = context.common_tls_context
    common.tls_params.tls_minimum_protocol_version = TlsParameters.TLSv1_2
    common.alpn_protocols.extend(alpn)
    for certificate in tls.certificates:
        config = common.tls_certificate_sds_secret_configs.add()
        config.name = names.secret(certificate)
        config.sds_config.CopyFrom(ads())
    if tls.clients is not None:
        context.require_client_certificate.value = tls.clients.required
        common.validation_context_sds_secret_config.name = names.client_authorities(tls.clients.authorities)
        common.validation_context_sds_secret_config.sds_config.CopyFrom(ads())
    chain.transport_socket.CopyFrom(TransportSocket(name="envoy.transport_sockets.tls", typed_config=pack(context)))
    chain.transport_socket_connect_timeout.CopyFrom(duration(HANDSHAKE_TIMEOUT_MS))
