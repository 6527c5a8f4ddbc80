"""The worlds that can carry smtp_proto's flows: sockets and threads, asyncio, trio.

Import the client and the server from the module that is named after your world:
`from smtp_adapters.asyncio import SMTPClient, SMTPServer`. They have the same names, parameters
and errors in each.
"""
