"""What people ask of the hub: the commands and answers that the gateway and the command line share."""
