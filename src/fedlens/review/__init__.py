"""The reviewer's console: a person sees why, decides, and leaves a trail."""
