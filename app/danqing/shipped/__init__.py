"""Plug-ins that come with Danqing. They use the hooks that everybody's plug-ins use, and can be switched off like them."""
