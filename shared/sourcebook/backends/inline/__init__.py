"""No broker: jobs run one after the other in this process."""
