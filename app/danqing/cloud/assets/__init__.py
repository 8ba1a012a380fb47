"""Files that go with the commands: the CloudFormation template."""
