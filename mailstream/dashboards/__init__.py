"""Grafana's dashboards as data, and the generator that writes ``deploy/grafana``."""
