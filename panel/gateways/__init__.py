"""What carries traffic to VMs. A gateway knows neither the database nor the web: services hand it a whole wish."""
