"""Tells a log line of a severity as it was, with pika.

python tutorials/porting/routing/old/emit_log_direct.py URL SEVERITY LINE…
"""

import sys

import pika

url, severity, *words = sys.argv[1:]
line = " ".join(words)
connection = pika.BlockingConnection(pika.URLParameters(url))
channel = connection.channel()
channel.exchange_declare("direct_logs", exchange_type="direct")
channel.basic_publish("direct_logs", severity, line)
print(f" [x] Sent {severity}:{line}")
connection.close()
