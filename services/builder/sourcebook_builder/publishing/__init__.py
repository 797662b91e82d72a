"""Publishing: releases written to an address, and installed from one."""
