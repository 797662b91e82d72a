"""Publishing: releases at an address, for other machines to install."""
