"""AWS: base images, launching, sharing, cleaning up. Talks to AWS through boto3 and knows nothing of the rest of the house."""
