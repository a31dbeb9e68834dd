"""Three PostgreSQL nodes under Patroni, with etcd and HAProxy, as processes of this machine: for trying and for tests.

It runs the files of deploy/patroni as they are. See docs/cluster.md.
"""
