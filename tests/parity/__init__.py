"""Cases that the WebUI drew, drawn again through the request, the plan and the engine that a user's request takes."""
