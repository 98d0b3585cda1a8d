def check_all(root, build):
    return []
