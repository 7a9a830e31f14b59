FILE=None
def update(write): return False
