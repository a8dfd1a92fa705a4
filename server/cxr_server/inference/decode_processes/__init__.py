"""Decode processes: image bytes -> ModelInput in processes of their own, within limits.

    pool         shares the processes between decode threads, and replaces those that have ended
    process      one of them, as the server sees it: its messages, its memory, its end
    forking      the fork server, as the server sees it
    fork_server  a process with the decoders loaded, which forks the others within milliseconds
    worker       what runs in them
    messages     what server and worker say to each other
    arena        memory that both see: the image file there, the network's input back

A decoder that crashes, hangs or takes too much memory ends its process, and costs its own call.
The server trusts nothing that a worker says: messages are parsed, not unpickled.
"""
