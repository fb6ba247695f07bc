"""``manage.py runserver`` with Portico: put ``"portico.contrib.django"`` first in INSTALLED_APPS."""
