"""
How fast: contenders at the same settings (``workloads``), each in a process of its own (``worker``), taking turns
(``contest``), what they come to (``tables``), and what they are held against (``plain_loop``, ``floor``).
"""
