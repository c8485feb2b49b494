"""What the outside may rely on: events, places in Kafka's log, boards and their names.

Pure: no socket, no clock, and no import but of the errors.
"""
