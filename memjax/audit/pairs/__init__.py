"""Every image against every other, exactly and no more than needed: the kernel of the audit."""
