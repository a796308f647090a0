"""pcap: captures, in and out."""
