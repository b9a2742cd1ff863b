"""How simulated traffic gets into a running installation: posts, datagrams, and servers that it polls."""
