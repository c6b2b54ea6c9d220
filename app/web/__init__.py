"""Where people look: pages, their guards, their looks. `install` puts them on the application."""
