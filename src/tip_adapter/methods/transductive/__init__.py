"""Methods that see the photos asked about together, without their labels: transductive, and at test time."""
